"""What is kept: profiles, verifications, their history, and which profile is in use."""
