import os
from hypothesis import settings

os.environ.setdefault('PLOTLY_RENDERER', 'plotly_mimetype') # never open a browser
settings.register_profile('ssm_nb', deadline=None, max_examples=50, database=None)
settings.load_profile('ssm_nb')
