"""A node for hospital archives (PACS): receives studies by DICOM, segments them and sends the results back."""
