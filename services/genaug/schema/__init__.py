"""Schema: the run file, the Jobs' inputs and the stored records, each field with its default and range once.

Field documentation lives beside the same fields in protos/genaug/v1; tests/unit/schema holds both against each other.
"""
