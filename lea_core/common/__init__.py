"""What every room uses: files, tables, errors, processes."""
