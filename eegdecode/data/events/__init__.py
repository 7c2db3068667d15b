"""Events: when which stimulus was presented."""
