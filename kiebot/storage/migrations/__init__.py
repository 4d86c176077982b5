"""Schema versions, forward only. The old code must be able to run on the new schema: expand first, contract later."""
