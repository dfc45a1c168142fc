"""Mail that mail providers post by HTTP, a file for each: verify the request, extract the mail, store it."""
