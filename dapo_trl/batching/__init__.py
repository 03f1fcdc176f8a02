"""How scored rows become a gradient: optimizer steps, micro-batches, and what each is divided by (DAPO Sec. 3.3)."""
