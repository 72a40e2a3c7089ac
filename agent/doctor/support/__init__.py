"""The support bundle: what a supporter needs to see, and nothing of patients or secrets (F30)."""
