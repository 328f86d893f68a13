"""`access`: the composition root and the commands of users and operators."""
