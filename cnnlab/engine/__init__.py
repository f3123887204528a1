"""The loop and what it needs: handed objects, it knows neither models nor data nor where files go."""
