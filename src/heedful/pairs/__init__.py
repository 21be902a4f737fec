"""Pairs: from rankings, audited, frozen in snapshots. No torch."""
