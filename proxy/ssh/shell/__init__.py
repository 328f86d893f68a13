"""Reading command lines as a POSIX shell would, without running them. Pure: text in, verdict out."""
