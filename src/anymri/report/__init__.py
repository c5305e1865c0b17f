"""Tables, figures and pages, made from results on disk and never from live objects."""
