"""Scores of a network that is not trained: a paper a file, a pure function and a class that a configuration can name.

=================  =====================================================================================
file               scores
=================  =====================================================================================
``size``           ``params``, ``macs``, ``depth``: the baselines that every other score has to beat
``synflow``        ``synflow``
``logsynflow``     ``logsynflow``
``naswot``         ``naswot``
``jacob_cov``      ``jacob_cov``
``snip``           ``snip``
``grasp``          ``grasp``
``fisher``         ``fisher``
``grad_norm``      ``grad_norm``
``plain``          ``plain``
``zico``           ``zico``
``zen``            ``zen``
``swap``           ``swap``
``az_nas``         ``az_nas``: four scores, and their sum of log ranks within a set of networks
``named``          all of them by name, for networks that are ranked together
=================  =====================================================================================

The higher a score, the better the network should be. A function takes a network and a batch (x, y), leaves the network
as it was, and depends on nothing but its arguments. A score that is not defined is NaN or infinite; who ranks by it has
to say what that means. Correlation over a whole space is not quality at the top, see ``docs/methods/proxy.md``.
"""
