"""True colours: charts, profiles and their application."""
