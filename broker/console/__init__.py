"""The few pages that the broker shows in a browser."""
