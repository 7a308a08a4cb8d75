"""Examples in docstrings run where the library that they are of is installed; PyTorch is not part of the test extra."""

from importlib.util import find_spec

collect_ignore = (
    [] if find_spec("torch") else [f"fastrev/interop/{name}.py" for name in ("torch", "_torch_node", "_torch_function")]
)
