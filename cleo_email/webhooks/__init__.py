"""Mail by HTTP from mail providers, a file for each: check the proof, extract the mail, hand it on."""
