"""`make demo`: a tiny model learns arithmetic by DAPO on a laptop's CPU. Nothing is downloaded."""
