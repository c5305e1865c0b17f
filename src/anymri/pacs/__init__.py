"""A PACS node: receives studies by DICOM or DICOMweb, segments them, and sends the results back."""
