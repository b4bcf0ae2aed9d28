"""What stages write, to compare."""


def contents(out):
    """The bytes of every file but the report, which holds times, by path."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != "report.json"
    }
