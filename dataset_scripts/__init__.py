"""FineHARD: schema, reader and the generated sample."""
