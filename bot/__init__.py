"""The Slack side: commands in, buttons in, cards out."""
