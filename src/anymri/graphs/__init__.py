"""Networks as graphs that other runtimes compute: one encoder per modality and a decoder, as ONNX or OpenVINO."""
