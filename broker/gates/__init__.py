"""Gates on other machines: who they are, and how the broker knows them."""
