"""A train job: the request, its data, its submission."""
