"""What makes the files in docs that nobody writes by hand."""
