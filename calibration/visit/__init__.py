"""The technician's steps: pictures in, documents and a report out."""
