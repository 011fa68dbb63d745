"""The page: a client of the service in a browser. It computes nothing but the waveform's outline."""
