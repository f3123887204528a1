"""Many runs: chosen, carried out beside each other, stopped early, gone on with, compared."""
