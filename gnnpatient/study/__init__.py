"""How good is it: rivals, scores, intervals."""
