"""The labelling app: pages for people, and a REST API. No torch; what is stored and who is asked what is decided below.

``app.py`` puts it together; ``access.py`` says who may do what; ``docs/labelling.md`` and ``docs/deploy.md`` tell the rest.
"""
