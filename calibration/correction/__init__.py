"""The colours themselves: what is measured, fitted, judged and applied."""
