"""HTTP calls to agents, token servers and webhook providers; ``address`` alone loads no libcurl."""
