"""The HTTP edge, framework-free: headers and a route template go in, an admission or a problem comes out.

Nothing here imports a web framework. Adapters translate between their framework and these modules; what is decided, is
decided here, so that every stack answers with the same status, headers and bytes.
"""
