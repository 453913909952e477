"""The compiled half of the hot path: optional, built by pip where there is a C compiler."""
