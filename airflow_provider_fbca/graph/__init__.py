"""Everything that talks to Meta's Graph API.

* :class:`~airflow_provider_fbca.graph.api.GraphApi` is the client, and an API object of Meta's SDK;
* :class:`~airflow_provider_fbca.graph.audiences.Audiences` makes, finds, reads and deletes audiences;
* :class:`~airflow_provider_fbca.graph.upload.UserUploader` adds, removes and replaces their people.
"""
