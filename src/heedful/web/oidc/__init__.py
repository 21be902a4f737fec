"""Signing in elsewhere: OpenID Connect, authorization code flow with PKCE.

``providers``: who may vouch for people, out of a file; ``fetching``: the only requests that the app
makes, bounded; ``relying``: one provider at work: its address to leave for, and what it says of who came back;
``tokens``: whether that is true.
"""
