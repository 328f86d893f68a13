"""Who somebody is: the directory, tokens and logins."""
