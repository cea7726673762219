"""The one function of the bindings' utilities that is used."""

from tests.simulators.cuda_runtime import Handle


def get_cuda_native_handle(obj):
    """The pointer behind a handle; TypeError for anything else, as in the bindings."""
    if not isinstance(obj, Handle):
        raise TypeError(f"type {type(obj)} is not supported")
    return obj.value
