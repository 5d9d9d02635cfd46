"""A stand-in for TensorFlow Serving: for laptops and tests, not a product.

It speaks the same REST and gRPC interfaces, follows the same folders, policies and labels, and
answers with the same values and codes, so what works with it works with `tensorflow_model_server`.
It runs signatures through the same session kernels; requests, JSON and versions are handled in
Python. Where it differs on purpose is listed in README.md here.

    codec                         JSON of requests and answers; numpy only
    config, states, manager       models.config, versions and labels
    servable, inference, warmup   a loaded SavedModel and what it computes
    api, http, grpc_service       the two interfaces
    server, main                  the whole server, and the process
"""
