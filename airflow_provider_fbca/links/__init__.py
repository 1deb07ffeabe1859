"""Links that the Airflow UI shows beside a task."""
