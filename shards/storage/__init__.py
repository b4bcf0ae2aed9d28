"""Files and folders, here or in a store; the cache; pickles read without running their code."""
