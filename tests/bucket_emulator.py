"""An emulated bucket of Google's storage on this machine: gs://bucket.

    python -m tests.bucket_emulator 9023    # prints the environment that programs need, and serves

The PyPI package gcp-storage-emulator, taught what tensorstore relies on and it lacks: reads tell
the generation of an object, and writes may ask for one.
"""

import contextlib
import logging
import sys
import time
from http import HTTPStatus

BUCKET = "bucket"


def environment(port):
    """What sends programs to the emulator instead of to Google."""
    address = f"http://localhost:{port}"
    names = ("STORAGE_EMULATOR_HOST", "TENSORSTORE_GCS_HTTP_URL")
    # Otherwise the client asks a service that is not emulated what kind of bucket it is.
    return dict.fromkeys(names, address) | {"GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}


@contextlib.contextmanager
def serving(port=0):
    """The port of an emulator that runs as long as the block."""
    from gcp_storage_emulator import server

    logging.getLogger("gcp_storage_emulator").setLevel(logging.CRITICAL)
    _teach(server)
    emulator = server.create_server("localhost", port, in_memory=True, default_bucket=BUCKET)
    emulator.start()
    http = emulator._api._httpd
    # A client that was killed leaves no answer to be told of.
    http.handle_error = _ignore
    try:
        yield http.server_port
    finally:
        emulator.stop()


def _ignore(*_):
    pass


def _teach(server):
    """Wraps the handlers of reads and writes, once."""
    objects = server.objects
    if hasattr(objects, "taught"):
        return
    objects.taught = True
    download, insert = objects.download, objects.insert

    def generation(storage, bucket, name):
        try:
            return storage.get_file_obj(bucket, name)["generation"]
        except Exception:
            return "0"

    def read(request, response, storage, *args, **kwargs):
        place = request.params["bucket_name"], request.params["object_id"]
        response["x-goog-generation"] = generation(storage, *place)
        download(request, response, storage, *args, **kwargs)

    def write(request, response, storage, *args, **kwargs):
        wanted = request.query.get("ifGenerationMatch", [None])[0]
        place = request.params["bucket_name"], request.query.get("name", [""])[0]
        if wanted is not None and wanted != generation(storage, *place):
            request.data  # noqa: B018 - a body that is not read would be the next request
            response.status = HTTPStatus.PRECONDITION_FAILED
            return
        insert(request, response, storage, *args, **kwargs)

    objects.download, objects.insert = read, write
    for _, handlers in server.HANDLERS:
        for method, handler in handlers.items():
            if handler in (download, insert):
                handlers[method] = read if handler is download else write


def main():
    """Serves until it is stopped."""
    with serving(int(sys.argv[1])) as port:
        print("\n".join(f"export {name}={value}" for name, value in environment(port).items()))
        sys.stdout.flush()
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    main()
