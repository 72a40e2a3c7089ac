"""What an engine bundle is, and how one is run: manifest, preprocessing contract, backends, worker process, ladder."""
