"""Looking after the records: what is given up in time, copies of the database, and patients who ask to be forgotten."""
