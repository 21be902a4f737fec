"""Reports: one self-contained HTML page. No torch."""
