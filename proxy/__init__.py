"""The gate: an identity-aware layer-7 proxy that lets in only what a live grant allows."""
