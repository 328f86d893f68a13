"""SCIM 2.0: an identity provider brings its people and groups, and takes them away (RFC 7643, RFC 7644)."""
