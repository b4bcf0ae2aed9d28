"""The on-disk format of training data: schema, writer, index, reader and the inspection commands."""
