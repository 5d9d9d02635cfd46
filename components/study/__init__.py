"""study: many small trainings, and what is true of the article's claims about BN."""
