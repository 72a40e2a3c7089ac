"""What a hospital's systems are given of a scan: DICOM for the archive, FHIR for the records, JSON for programs."""
