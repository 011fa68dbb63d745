"""SenseVoiceSmall on KServe: the speech library (``engine``) and the server around it (``server``)."""
