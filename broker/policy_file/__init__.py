"""Reading access.yaml: positions (marks), shape (schema), meaning (build)."""
