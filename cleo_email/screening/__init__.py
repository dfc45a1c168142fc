"""Whether a mail may be answered, by what stands in it. Pure, but for the DNS questions of ``dkim``."""
